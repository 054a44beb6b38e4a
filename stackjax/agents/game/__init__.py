"""The resource game: state, surfaces, payoffs and the networks of both players."""
