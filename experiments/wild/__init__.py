"""Wild: mistakes that stood in real projects."""
