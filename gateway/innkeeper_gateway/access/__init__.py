"""Who is asking, and whether they may: one function decides for every route."""
