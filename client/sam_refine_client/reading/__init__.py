"""The one reader of images, class scores and label maps, in whatever form callers have them.

What is certain is taken. What is plausible but doubtful is taken, and said in a sentence of
`Notes`, which ends up in the result's `warnings`. What is wrong is refused by an
`InvalidRequestError` that says what would be right. docs/inputs.md lists the forms.
"""
