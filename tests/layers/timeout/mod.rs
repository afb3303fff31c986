//! The timeout: of the response head, and of the response body.

mod body;
mod head;
