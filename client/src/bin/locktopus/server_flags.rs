//! The flags that name the server, and the variables that replace them.

use crate::output::Failure;
use locktopus_client::{DEFAULT_URL, Options};
use std::env;
use std::path::{Path, PathBuf};

/// Declares a subcommand: its own arguments, followed by the flags that name the server. argh cannot include the
/// fields of another struct. `in NAMESPACE` adds the flag for the namespace.
macro_rules! with_server_flags {
    ($(#[$($attribute:tt)*])* struct $name:ident in NAMESPACE { $($own:tt)* }) => {
        $crate::server_flags::with_server_flags! {
            @ [$(#[$($attribute)*])*] $name [
                $($own)*

                /// namespace; by default the namespace of the URL, else `default`
                #[argh(option, short = 'n')]
                pub(crate) namespace: Option<String>,
            ]
            (|flags: &$name| flags.namespace.clone())
        }
    };
    ($(#[$($attribute:tt)*])* struct $name:ident { $($own:tt)* }) => {
        $crate::server_flags::with_server_flags! {
            @ [$(#[$($attribute)*])*] $name [ $($own)* ] (|_: &$name| None)
        }
    };
    (@ [$($attributes:tt)*] $name:ident [ $($own:tt)* ] $namespace:expr) => {
        $($attributes)*
        pub(crate) struct $name {
            $($own)*

            /// URL of the server; ws://127.0.0.1:9009 by default
            #[argh(option, short = 'u')]
            pub(crate) url: Option<String>,

            /// auth token; LOCKTOPUS_AUTH_TOKEN is safer, since all users can see flags in the list of processes
            #[argh(option)]
            pub(crate) token: Option<String>,

            /// PEM file with certificates to trust besides those of the system
            #[argh(option, arg_name = "file")]
            pub(crate) ca_file: Option<std::path::PathBuf>,
        }

        impl $name {
            /// The options that the flags and the variables give.
            pub(crate) fn options(
                &self,
            ) -> Result<locktopus_client::Options, $crate::output::Failure> {
                let namespace: Option<String> = ($namespace)(self);
                $crate::server_flags::options(
                    self.url.as_deref(),
                    namespace.as_deref(),
                    self.token.as_deref(),
                    self.ca_file.as_deref(),
                )
            }
        }
    };
}
pub(crate) use with_server_flags;

/// The options. A flag overrides its variable, and the variable overrides the URL.
pub(crate) fn options(
    url: Option<&str>,
    namespace: Option<&str>,
    token: Option<&str>,
    ca_file: Option<&Path>,
) -> Result<Options, Failure> {
    let url = flag_or_variable(url, "LOCKTOPUS_URL")?;
    let mut options = Options::new(url.as_deref().unwrap_or(DEFAULT_URL))?;
    if let Some(namespace) = flag_or_variable(namespace, "LOCKTOPUS_NAMESPACE")? {
        options.namespace = namespace;
    }
    if let Some(token) = flag_or_variable(token, "LOCKTOPUS_AUTH_TOKEN")? {
        options.auth_token = Some(token);
    }
    let variable = env::var_os("LOCKTOPUS_CA_FILE").filter(|file| !file.is_empty());
    options.ca_file = ca_file.map(Path::to_owned).or(variable.map(PathBuf::from));
    Ok(options)
}

/// The value of a flag, or else of a variable. An empty variable counts as unset.
fn flag_or_variable(flag: Option<&str>, variable: &str) -> Result<Option<String>, Failure> {
    if let Some(value) = flag {
        return Ok(Some(value.to_owned()));
    }
    match env::var(variable) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        // The value is not shown: it may be the auth token.
        Err(env::VarError::NotUnicode(_)) => {
            Err(Failure::Usage(format!("{variable} is not UTF-8")))
        }
    }
}
