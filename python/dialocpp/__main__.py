"""`python -m dialocpp` is the command line."""

from .cli import main

main(prog_name="dialocpp")
