"""The words of every verdict: of certificates, of `check`, of drift and of the runtime."""

import enum


class Verdict(enum.StrEnum):
    """What a test of a claim says; equal to the string that it prints as.

    Each report uses some of the words:

    | of | words |
    |---|---|
    | `Statement` | 'holds', 'fails', 'vacuous', 'not checked' |
    | `Check` | 'ok', 'fails', 'not checked', 'several', 'local', 'kink' |
    | `agents.surrogate.Drift` | 'holds', 'fails', 'undecided' |
    | `runtime.Comparison` | 'continue', 'harm', 'success' |

    Example:
      >>> sj.certificates.Verdict.HOLDS == "holds"
      True
    """

    OK = "ok"
    HOLDS = "holds"
    FAILS = "fails"
    VACUOUS = "vacuous"
    NOT_CHECKED = "not checked"
    UNDECIDED = "undecided"
    SEVERAL = "several"
    LOCAL = "local"
    KINK = "kink"
    CONTINUE = "continue"
    HARM = "harm"
    SUCCESS = "success"

    __repr__ = str.__repr__
