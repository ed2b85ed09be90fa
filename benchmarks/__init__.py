"""Speed next to timm, compile time and startup; README.md has the results and the commands."""
