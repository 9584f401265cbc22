"""From a module's shape and a packing to a plan: what will run, what it costs, what it reveals. Pure: no HE library."""
