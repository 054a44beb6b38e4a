"""Controllers of sessions, the dynamics of a session, and a world with known parameters."""
