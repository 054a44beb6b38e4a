"""What a policy is worth: on replayed turns, off policy, and with a certificate."""
