"""Methods for the follower's and the leader's problem, and the one rule of their derivative."""
