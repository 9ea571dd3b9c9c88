"""Parts of the command line: shared arguments, stage runner, display, and the commands of a served shop."""
