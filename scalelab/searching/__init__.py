"""Searches that outlive the shell they were begun in: run by any number of workers, attached to, stopped.

The arguments are kept in the study's folder (`request`); a process with them is a worker (`working`), trains here or
hands its runs to an engine (`engines`), and is looked at from elsewhere (`watching`).
"""
