"""What knows no game: pytrees, factorisations, components of programs, starts, arguments."""
