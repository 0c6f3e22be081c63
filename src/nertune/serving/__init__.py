"""The HTTP service: many taggers behind one queue. Needs the extra `serve`."""
