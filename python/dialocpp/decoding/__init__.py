"""By which rules is the next token chosen? May import `text` and what is below it; never `prompt` or `engine`."""
