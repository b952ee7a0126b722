"""`python -m h2t` and `torchrun -m h2t`: the command line."""

from h2t.cli import main

if __name__ == "__main__":
    main()
