//! Arbitrary query strings. Property: the parameters can be written again and read back, or the error names one of
//! them. A place in a list of locks is written again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use locktopus_server::query::{Upgrade, namespace, place, write_place};

fuzz_target!(|query: &str| {
    match place(Some(query)) {
        Ok(None) => {}
        Ok(Some(place)) => {
            let after = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "after");
            assert_eq!(
                Some(write_place(&place)),
                after.map(|(_, value)| value.into_owned())
            );
        }
        Err(refusal) => assert!(refusal.to_string().starts_with("URL parameter 'after'")),
    }
    match Upgrade::parse(Some(query)) {
        Ok(upgrade) => {
            assert_eq!(namespace(Some(query)).as_ref(), Ok(&upgrade.namespace));
            let mut anew = form_urlencoded::Serializer::new(String::new());
            anew.append_pair("unknown", query);
            anew.append_pair("namespace", &upgrade.namespace);
            if let Some(timeout) = upgrade.abandon_timeout {
                anew.append_pair("abandon-timeout-ms", &timeout.as_millis().to_string());
            }
            if let Some(client) = &upgrade.client {
                anew.append_pair("client", client);
            }
            assert_eq!(Upgrade::parse(Some(&anew.finish())), Ok(upgrade));
        }
        Err(refusal) => assert!(refusal.to_string().starts_with("URL parameter '")),
    }
});
