//! The host's side of a console socket.
