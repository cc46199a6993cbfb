// The deliberate defects, and where they stand in the engine's source.
//
// The build script and the library include this table: the one makes the switches of it, the other
// the type `Mutation`. A mutation is a name, why it has to be noticed, and its edits:
//
//     "file": "text" => "instead";
//
// The text must stand in the file exactly once, or the build fails. What is between « and » is what
// the mutation replaces, the rest of the text only says where that is; without them it replaces all.
// Nothing between them is a place to insert something, and nothing instead is a part left out.
// Both stand in the compiled copy, in the branches of an `if`: so they are either expressions of one
// type, or statements that bind no name for those that follow.

mutations! {
    /// A request may get a ticket while some of its entries are missing.
    PublishedFromTheStart {
        "request.rs": "Request::with_ticket(resources, birth, «PUBLISHING»)" => "PUBLISHED";
        "request.rs": "self.ticket.store(PUBLISHED, Ordering::Release);" => "";
    }

    /// Who meets a published request without a ticket takes it for a later one.
    NoHelping {
        "request.rs": "PUBLISHED => «self.draw(clock)»" => "PUBLISHED";
    }

    /// A release takes the chain of its watchers before it marks the request as released.
    TakeBeforeSetting {
        "event.rs": "«»let before = self.word.fetch_or(SET, Ordering::AcqRel);" => "
            let taken = self.take();
            let before = self.word.fetch_or(SET, Ordering::AcqRel);
            return (before & SET == 0).then_some(taken);
        ";
    }

    /// Who has pushed a watch does not look whether the request was released meanwhile.
    NoLookAfterPush {
        "event.rs": "self.is_set().then(|| self.take())" => "None";
    }

    /// A watch is pushed without the announcement that makes the release look for it.
    NoAnnouncement {
        "event.rs": "self.word.fetch_or(ANNOUNCED, Ordering::AcqRel)" => "self.word.load(Ordering::Acquire)";
    }

    /// Retired subscribers stay in the chains, in any number.
    NoPurge {
        "event.rs": "«»if retired < FEW_RETIRED {" => "return;";
    }

    /// A withdrawn request does not report its watch as retired.
    NoRetiring {
        "request.rs": "watched.released.retire();" => "";
    }

    /// A purge drops what was pushed since it looked.
    PurgeForgetsTheNew {
        "event.rs": "«»if self.chain.replace(&head, purged.0.clone()) {" => "
            let newer = self.chain.load();
            if self.chain.replace(&newer, purged.0.clone()) {
                return;
            }
            seen = newer;
            continue;
        ";
    }

    /// Who meets a published request without a ticket waits for its owner to draw one.
    WaitForTheTicket {
        "request.rs": "«»match self.ticket.load(Ordering::Acquire) {" => r#"
            let mut patience = (0..1_000_000).map(|_| self.ticket.load(Ordering::Acquire));
            assert!(patience.any(|ticket| ticket != PUBLISHED), "it waits for a ticket");
        "#;
    }

    /// Entries are removed after those who waited were advanced.
    RemoveAfterAdvancing {
        "table.rs": "«»self.entries.remove(request, &guard);" => "self.end(request, pin());";
    }

    /// A walk goes on with the next span instead of the rest of the one where it stopped.
    ResumePastTheSpan {
        "walk.rs": "at: «from»," => "
            match from.after {
                Some(_) => Cursor { span: from.span.next(), after: None, ..from },
                None => from,
            }
        ";
    }

    /// Drawing from the clock orders nothing.
    RelaxedDraw {
        "clock.rs": "self.0.fetch_add(1, «Ordering::AcqRel»)" => "Ordering::Relaxed";
    }

    /// The look at the next entry replaces the search, even if others drew tickets meanwhile.
    AlwaysShortcut {
        "entries.rs": "&& «ticket == request.birth»" => "true";
    }

    /// A depth is marked after its entry got a ticket, so that it is not looked up in time.
    MarkAfterPublishing {
        "entries.rs": "self.mark(resource);" => "";
        "entries.rs": "let ticket = request.publish(clock);«»" => "self.section(only.mode).mark(only);";
    }

    /// A grant that came too late for a withdrawal is counted, too.
    CountEveryGrant {
        "table.rs": "let waiters = request.granted.set();«»" => "
            if waiters.is_none() {
                self.settle(request);
            }
        ";
    }
}
