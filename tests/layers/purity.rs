//! Rules for the sources.

use std::fs;
use std::path::Path;

#[test]
fn decisions_know_no_request_no_runtime_and_no_time() {
    let control = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control");
    let mut seen = 0;
    let mut folders = vec![control];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let code = fs::read_to_string(&path).unwrap();
            let code = code.split("mod tests").next().unwrap();
            for word in ["tower", "http", "tokio", "Instant", "SystemTime", "clock"] {
                let named = code
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .any(|line| line.contains(word));
                assert!(!named, "{} names {word}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 10);
}
