"""Models and jobs over HTTP."""
