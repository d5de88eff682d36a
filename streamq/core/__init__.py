"""Words that producers and workers share."""
