//! Secrets that somebody wrote into the file are not shown with the line.

/// Replaces what stands after `=` on lines whose key speaks of a secret, byte for byte, so that spans stay true.
/// Keys that only name a place (`…_file`, `…_env`) are left readable.
pub(super) fn mask_secrets(source: &str) -> String {
    let mut masked = String::with_capacity(source.len());
    let mut in_secret_table = false;
    for line in source.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with('[') {
            in_secret_table = trimmed.starts_with("[secret]");
        }
        match line.split_once('=') {
            Some((key, value)) if speaks_of_a_secret(key, in_secret_table) => {
                masked.push_str(key);
                masked.push('=');
                for character in value.chars() {
                    match character {
                        '\n' | '\r' | ' ' | '"' => masked.push(character),
                        _ => masked.extend(std::iter::repeat_n('*', character.len_utf8())),
                    }
                }
            }
            _ => push_without_login(&mut masked, line),
        }
    }
    masked
}

/// User and password of an address (`scheme://user:password@host`) are masked too, whatever the key.
fn push_without_login(masked: &mut String, line: &str) {
    let login = line.find("://").and_then(|at| {
        let start = at + 3;
        let rest = line.get(start..)?;
        let authority = rest.split(['/', '"', '\'', ' ']).next()?;
        // A password that was not encoded may hold any of those.
        let end = authority.rfind('@').or_else(|| rest.rfind('@'))?;
        Some((start, start + end))
    });
    let parts = login.and_then(|(start, end)| {
        Some((line.get(..start)?, line.get(start..end)?, line.get(end..)?))
    });
    match parts {
        Some((before, login, after)) => {
            masked.push_str(before);
            masked.extend(std::iter::repeat_n('*', login.len()));
            masked.push_str(after);
        }
        None => masked.push_str(line),
    }
}

fn speaks_of_a_secret(key: &str, in_secret_table: bool) -> bool {
    let key = key.trim().to_lowercase();
    let places = [
        "file", "env", "previous", "endpoint", "cookie", "url", "path",
    ];
    if key.starts_with('#') || places.iter().any(|place| key.ends_with(place)) {
        return false;
    }
    in_secret_table
        || ["secret", "password", "passwd", "token", "private", "master"]
            .iter()
            .any(|word| key.contains(word))
}
