"""What a log of decisions says: values of both arms, savings, a page."""
