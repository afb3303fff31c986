//! The timeout: of the response head, and of the response body.

mod blame;
mod body;
mod head;
