"""What every stage needs: params, errors a user can fix, outputs written whole, seeds, progress."""
