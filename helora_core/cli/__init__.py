"""The command line: one module per command, which parses, calls one public function, and prints."""
