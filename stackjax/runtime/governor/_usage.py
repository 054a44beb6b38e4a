"""What one model call took."""

from __future__ import annotations

from dataclasses import dataclass

from stackjax._arrays.arguments import check_within


@dataclass(frozen=True)
class Usage:
    """What a turn took.

    Attributes:
      prompt_tokens: Tokens read by the model.
      completion_tokens: Tokens written.
      exact: Whether the upstream counted them; else they are estimates.
      latency: Seconds of the upstream's call.
      tool_calls: Calls that the model asked for.
      model: Model's name.
      failure: ``"http_503"``, ``"timeout"``, ``"connection"``, ``"disconnected"``, or None.
      quality: In [0, 1] if it is known at once.
      applied: Whether the decision's response was carried out in full; False if the request went
        as it came although the turn was governed.
      cached_tokens: Those of the prompt tokens that the upstream had in its cache.
      estimates: Estimated prompt tokens of the request as it came, and as it was sent; (0, 0) where
        nobody estimated them.
      refused: Whether the model, or a filter, refused to answer.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a count is negative, more is cached than read, or the quality not in [0, 1].

    Example:
      >>> Usage(120, 30).tokens
      150
    """

    prompt_tokens: int
    completion_tokens: int
    exact: bool = True
    latency: float = 0.0
    tool_calls: int = 0
    model: str = ""
    failure: str | None = None
    quality: float | None = None
    applied: bool = True
    cached_tokens: int = 0
    estimates: tuple[int, int] = (0, 0)
    refused: bool = False

    def __post_init__(self) -> None:
        check_within("prompt_tokens", self.prompt_tokens, "[0, inf]")
        check_within("completion_tokens", self.completion_tokens, "[0, inf]")
        check_within("cached_tokens", self.cached_tokens, f"[0, {self.prompt_tokens}]")
        if self.quality is not None:
            check_within("quality", self.quality, "[0, 1]")

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def removed(self) -> float | None:
        """Prompt tokens that rewriting took out, in the upstream's tokens; None if unknown.

        A model's tokens for each estimated one are taken from the request that was sent, within a
        factor of 2: what is in no message, tool schemas for instance, was not taken out.
        """
        came, sent = self.estimates
        if sent <= 0:
            return None
        return (came - sent) * min(max(self.prompt_tokens / sent, 0.5), 2.0)
