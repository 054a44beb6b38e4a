"""Sets of actions that recorded turns support, how they are chosen, and audits of need."""
