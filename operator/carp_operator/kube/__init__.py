"""The API server: requests, errors and one list-watch loop. The only importer of `kubernetes`."""
