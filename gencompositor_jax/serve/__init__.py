"""The service: HTTP for the jobs of `jobs.service`. Needs the extra `serve`."""
