"""The leader's problem: by the value function, or as one program with the follower's conditions."""
