"""What there is, page by page: events, runs and their traces, names of events, functions, apps, and what waits."""
