"""The commands, a file each or a few that belong together. They import what they need when they are called: `--help` reads them all."""
