"""Requests and answers of chat completions: messages, rewriting, usage."""
