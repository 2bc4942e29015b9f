"""The shapes of what comes in and goes out, checked by pydantic at the edge."""
