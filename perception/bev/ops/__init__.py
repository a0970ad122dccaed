"""Operations under the encoders: each fast one has a slow readable twin beside it."""
