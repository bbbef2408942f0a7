"""What people look at: band structures, and reports as pages with pictures."""
