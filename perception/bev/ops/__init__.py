"""Operations of the encoders: each fast one has a reference implementation beside it."""
