"""The papers' pictures: arrays first (numpy only), then drawing (matplotlib when used)."""
