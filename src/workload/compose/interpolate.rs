//! Variables in the values of a Compose file: `$NAME`, `${NAME}` and the forms with a default, an error or a replacement.

/// How deep forms may be nested in each other.
const DEEPEST: usize = 32;

/// Where values come from.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// A text with its variables replaced, and the names of those that were not set.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    pub text: String,
    pub unset: Vec<String>,
}

/// Why a text cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid {
    pub message: String,
    pub hint: String,
}

/// Replaces the variables of `text`. `$$` is a dollar.
///
/// # Errors
/// A form that is not valid, or a required variable that is not set.
pub fn replace(text: &str, lookup: Lookup<'_>) -> Result<Replaced, Invalid> {
    let mut parser = Parser { rest: text, lookup, unset: Vec::new() };
    let text = parser.until(None, true, 0)?;
    Ok(Replaced { text, unset: parser.unset })
}

struct Parser<'t, 'l> {
    rest: &'t str,
    lookup: Lookup<'l>,
    unset: Vec<String>,
}

/// How many bytes of `text` are the name of a variable.
fn name_length(text: &str) -> usize {
    let of = |(n, c): &(usize, char)| c.is_ascii_alphabetic() || *c == '_' || (*n > 0 && c.is_ascii_digit());
    text.char_indices().take_while(of).count()
}

impl Parser<'_, '_> {
    /// Up to `end`, which is taken too, or to the end of the text. `used`: whether the result is; variables that are not
    /// set matter only then.
    fn until(&mut self, end: Option<char>, used: bool, depth: usize) -> Result<String, Invalid> {
        if depth > DEEPEST {
            return Err(invalid("variables are nested too deep", "define them one by one"));
        }
        let mut out = String::new();
        // Braces of the text itself, such as those of JSON.
        let mut open = 0u32;
        loop {
            let stop = |c: char| c == '$' || (end.is_some() && matches!(c, '{' | '}'));
            let Some(at) = self.rest.find(stop) else {
                out.push_str(self.rest);
                self.rest = "";
                return match end {
                    None => Ok(out),
                    Some(_) => Err(invalid("\"${\" without \"}\"", "write `$$` for a dollar")),
                };
            };
            out.push_str(&self.rest[..at]);
            let found = self.rest.as_bytes()[at];
            self.rest = &self.rest[at + 1..];
            match found {
                b'$' => out.push_str(&self.variable(used, depth)?),
                b'{' => {
                    open += 1;
                    out.push('{');
                }
                _ if open == 0 => return Ok(out),
                _ => {
                    open -= 1;
                    out.push('}');
                }
            }
        }
    }

    /// The expression after a dollar.
    fn variable(&mut self, used: bool, depth: usize) -> Result<String, Invalid> {
        if let Some(after) = self.rest.strip_prefix('$') {
            self.rest = after;
            return Ok("$".to_owned());
        }
        let braces = self.rest.starts_with('{');
        let from = usize::from(braces);
        let length = name_length(&self.rest[from..]);
        if length == 0 {
            let written: String = self.rest.chars().take(8).collect();
            let message = format!("\"${written}\" is not a variable");
            return Err(invalid(&message, "write `$$` for a dollar"));
        }
        let name = self.rest[from..from + length].to_owned();
        self.rest = &self.rest[from + length..];
        if braces { self.form(&name, used, depth) } else { Ok(self.plain(&name, used)) }
    }

    fn plain(&mut self, name: &str, used: bool) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            if used && !self.unset.iter().any(|n| n == name) {
                self.unset.push(name.to_owned());
            }
            String::new()
        })
    }

    /// The rest after a name in braces, up to the closing one.
    fn form(&mut self, name: &str, used: bool, depth: usize) -> Result<String, Invalid> {
        let colon = self.rest.starts_with(':');
        let sign = self.rest[usize::from(colon)..].chars().next();
        match sign {
            Some('}') if !colon => {
                self.rest = &self.rest[1..];
                return Ok(self.plain(name, used));
            }
            Some('-' | '?' | '+') => self.rest = &self.rest[usize::from(colon) + 1..],
            _ => {
                let message = format!("\"${{{name}\" is not followed by \"}}\"");
                let hint = "forms are ${NAME}, ${NAME:-DEFAULT}, ${NAME:?ERROR} and ${NAME:+REPLACEMENT}";
                return Err(invalid(&message, hint));
            }
        }
        let value = (self.lookup)(name).filter(|v| !colon || !v.is_empty());
        let needed = used && if sign == Some('+') { value.is_some() } else { value.is_none() };
        let word = self.until(Some('}'), needed, depth + 1)?;
        match (sign, value) {
            (Some('+'), Some(_)) => Ok(word),
            (Some('+'), None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (Some('?'), None) if used => {
                let why =
                    if word.is_empty() { "is not set".to_owned() } else { format!("is required: {word}") };
                let hint = format!("set {name} in the environment, in .env or with --env-file");
                Err(invalid(&format!("variable {name} {why}"), &hint))
            }
            (_, None) => Ok(word),
        }
    }
}

fn invalid(message: &str, hint: &str) -> Invalid {
    Invalid { message: message.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let known = [("SET", "value"), ("EMPTY", ""), ("_x1", "under"), ("DOLLAR", "$SET")];
        known.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
    }

    fn of(text: &str) -> String {
        match replace(text, &lookup) {
            Ok(r) if r.unset.is_empty() => r.text,
            Ok(r) => format!("{} (unset {})", r.text, r.unset.join(",")),
            Err(e) => format!("error: {}", e.message),
        }
    }

    #[test]
    fn all_forms_have_the_values_of_compose() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a $SET b", "a value b"),
            ("${SET}-${EMPTY}.", "value-."),
            ("$_x1/", "under/"),
            ("$SET1", " (unset SET1)"),
            ("$GONE ${GONE}", "  (unset GONE)"),
            ("$$SET $${SET} $$$SET", "$SET ${SET} $value"),
            ("$DOLLAR", "$SET"),
            ("${SET:-d} ${EMPTY:-d} ${GONE:-d}", "value d d"),
            ("${SET-d} ${EMPTY-d} ${GONE-d}", "value  d"),
            ("${SET:+r}|${EMPTY:+r}|${GONE:+r}", "r||"),
            ("${SET+r}|${EMPTY+r}|${GONE+r}", "r|r|"),
            ("${SET:?e} ${EMPTY?e}", "value "),
            ("${GONE:?no value}", "error: variable GONE is required: no value"),
            ("${EMPTY:?e}", "error: variable EMPTY is required: e"),
            ("${GONE?}", "error: variable GONE is not set"),
            ("${GONE:-${SET}}", "value"),
            ("${GONE:-a${EMPTY:-b${SET}c}d}", "abvaluecd"),
            ("${GONE:-${ALSO}}", " (unset ALSO)"),
            ("${SET:-${ALSO}}", "value"),
            ("${SET:-${ALSO:?e}}", "value"),
            ("${SET:+${GONE:-x}}", "x"),
            ("${GONE:-http://a:80/?b=c}", "http://a:80/?b=c"),
            ("${GONE:-}", ""),
            ("${GONE:-{\"a\": {}}} ${SET:-{\"a\": {}}}", "{\"a\": {}} value"),
            ("${GONE:-{${SET}}}{", "{value}{"),
            ("${GONE:-{}", "error: \"${\" without \"}\""),
            ("${SET:?a}${EMPTY-b}${SET-c}", "valuevalue"),
            ("$SET$SET/$EMPTY$SET", "valuevalue/value"),
            ("${GONE:-$$$SET}", "$value"),
            ("${GONE:+${ALSO:?e}}", ""),
            ("${SET:}", "error: \"${SET\" is not followed by \"}\""),
            ("${SET!}", "error: \"${SET\" is not followed by \"}\""),
            ("${SET }", "error: \"${SET\" is not followed by \"}\""),
            ("${GONE:-a$$b}", "a$b"),
            ("${SET", "error: \"${SET\" is not followed by \"}\""),
            ("${GONE:-x", "error: \"${\" without \"}\""),
            ("${}", "error: \"${}\" is not a variable"),
            ("${ SET}", "error: \"${ SET}\" is not a variable"),
            ("${SET:x}", "error: \"${SET\" is not followed by \"}\""),
            ("^a$", "error: \"$\" is not a variable"),
            ("$1", "error: \"$1\" is not a variable"),
            ("größe $SET", "größe value"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_the_stack_ends() {
        let deep = "${A:-".repeat(100_000);
        assert_eq!(of(&deep), "error: variables are nested too deep");
    }
}
