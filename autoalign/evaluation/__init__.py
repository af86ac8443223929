"""Models scored on benchmarks: asked, judged, put into tables, compared."""
