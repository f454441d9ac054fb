"""How the course's own figures and shipped files were made. Nothing else in the package needs it."""
