"""Time and memory of models and of the attention operator, beside other libraries and what the machine can do."""
