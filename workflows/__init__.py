"""What a user does: the commands and the work behind them."""
