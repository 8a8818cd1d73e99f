"""``python -m xpsr_cli`` is the ``xpsr`` command."""

from xpsr_cli.cli.app import main

if __name__ == "__main__":
    main()
