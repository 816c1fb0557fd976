//! A password from the person in front of the terminal, or from a pipe; never from an argument, where `ps` and the shell's
//! history would show it.

use std::io::{BufRead, IsTerminal as _, Read as _};

use zeroize::Zeroizing;

use crate::login::local::MAX_PASSWORD;
use crate::units::Secret;

/// Shortest password, in characters (NIST SP 800-63B section 3.1.1.2 asks for 8 or more).
const MIN_CHARACTERS: usize = 8;

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub(super) enum PasswordError {
    #[error("the password cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("the two passwords differ; nothing was changed")]
    Differ,
    #[error(
        "there is no password: write it into the first line of stdin, or run this in a terminal"
    )]
    Missing,
    #[error("the password is too short: at least {MIN_CHARACTERS} characters")]
    TooShort,
    #[error("the password is too long: at most {MAX_PASSWORD} bytes")]
    TooLong,
    #[error("the password is not UTF-8 text")]
    NotText,
}

/// Asks twice in a terminal; otherwise takes the first line of stdin.
pub(super) fn new_password(user: &str) -> Result<Secret, PasswordError> {
    if std::io::stdin().is_terminal() {
        let first = Zeroizing::new(rpassword::prompt_password(format!(
            "New password for {user}: "
        ))?);
        // Refused before it is typed a second time.
        let password = accepted(first.as_bytes())?;
        let second = Zeroizing::new(rpassword::prompt_password("Once more: ")?);
        if *first != *second {
            return Err(PasswordError::Differ);
        }
        Ok(password)
    } else {
        first_line(&mut std::io::stdin().lock())
    }
}

fn first_line(input: &mut impl BufRead) -> Result<Secret, PasswordError> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_PASSWORD + 3));
    // One byte more than a line with the longest password and its end: too long is then told from cut off.
    let most = u64::try_from(MAX_PASSWORD)
        .unwrap_or(u64::MAX)
        .saturating_add(3);
    let read = input.take(most).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Err(PasswordError::Missing);
    }
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    accepted(line.strip_suffix(b"\r").unwrap_or(line))
}

fn accepted(password: &[u8]) -> Result<Secret, PasswordError> {
    if password.len() > MAX_PASSWORD {
        return Err(PasswordError::TooLong);
    }
    let text = std::str::from_utf8(password).map_err(|_| PasswordError::NotText)?;
    if text.chars().count() < MIN_CHARACTERS {
        return Err(PasswordError::TooShort);
    }
    Ok(Secret::new(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password() {
        let check = |input: &[u8], want: Result<&[u8], &str>| match (first_line(&mut &*input), want)
        {
            (Ok(found), Ok(want)) => assert_eq!(found.expose(), want),
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
            (found, want) => panic!("{found:?}, wanted {want:?}"),
        };
        let long = vec![b'x'; MAX_PASSWORD];
        let with_end = |end: &[u8]| [long.as_slice(), end].concat();
        check(b"correct horse\nsecond line\n", Ok(b"correct horse"));
        check(b"correct horse\r\n", Ok(b"correct horse"));
        check(b" 8 chars ", Ok(b" 8 chars "));
        check(
            "비밀번호는여덟자".as_bytes(),
            Ok("비밀번호는여덟자".as_bytes()),
        );
        check(&with_end(b""), Ok(&long));
        check(&with_end(b"\r\n"), Ok(&long));
        check(&with_end(b"y\r\n"), Err("too long"));
        check(&with_end(&[b'y'; 5000]), Err("too long"));
        check(b"", Err("there is no password"));
        check(b"\n", Err("too short"));
        check(b"1234567\n", Err("too short"));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff\n", Err("not UTF-8"));
    }
}
