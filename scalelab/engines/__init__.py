"""Engines: where populations are trained when it is not here. They start processes; the run folders say what came."""
