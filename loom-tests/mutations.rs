// The mutations: deliberate defects of the engine, and their places in its source.
//
// The build script and the library include this table. The build script makes the switches from it, and the
// library makes the type `Mutation`. A row is a name, a doc comment that says what the mutation breaks and
// how that is noticed, and the edits:
//
//     "file": "text" => "instead";
//
// The text must stand in the file exactly once, or the build fails. The mutation replaces the part of the
// text between « and »; the rest of the text only finds the place. Without these marks it replaces the whole
// text. An empty part marks a place to insert something. An empty `instead` leaves the part out.
//
// The compiled copy has both, in the branches of an `if`. So they are expressions of one type, or
// statements that bind no name for later statements.

mutations! {
    /// Breaks R1: a request gets a ticket before all its entries are inserted. A later walk misses one.
    PublishedFromTheStart {
        "request.rs": "Request::with_ticket(resources, birth, «PUBLISHING»)" => "PUBLISHED | FIRST_LIFE";
        "request.rs": "self.ticket.store(PUBLISHED | FIRST_LIFE, Ordering::Release);" => "";
    }

    /// Breaks guarantee 1: a published request without a ticket is treated as a later one. Its owner may
    /// have drawn a smaller number already.
    NoHelping {
        "request.rs": "while word & KIND == PUBLISHED {«»" => "return word;";
    }

    /// Breaks E2: a release takes the chain before it sets the event. A watch that is pushed in between is
    /// never served.
    TakeBeforeSetting {
        "event.rs": "«»let before = self.word.fetch_or(SET, Ordering::AcqRel);" => "
            let taken = self.take(ANNOUNCED | CHAINED);
            let before = self.word.fetch_or(SET, Ordering::AcqRel);
            return (before & SET == 0).then_some(taken);
        ";
    }

    /// Breaks E1: the first watch does not look at the event after it has taken its place. If the event was set
    /// meanwhile, the watch is never served.
    NoLookAfterTheFirst {
        "event.rs": "self.first.put(subscriber);
            return «self.missed()»;" => "None";
    }

    /// Breaks E1: after the push of a watch there is no look at the event. If the event was set meanwhile,
    /// the watch is never served.
    NoLookAfterPush {
        "event.rs": "garbage.add(own);
        «self.missed()»" => "None";
    }

    /// Breaks E1: the first watch takes its place without an announcement, so the release does not take it.
    NoAnnouncement {
        "event.rs": "self.word.fetch_or(ANNOUNCED, Ordering::AcqRel)" => "self.word.load(Ordering::Acquire)";
    }

    /// Breaks E1: a watch is pushed without an announcement, so the release does not take the chain.
    NoAnnouncementOfTheChain {
        "event.rs": "self.word.fetch_or(CHAINED, Ordering::AcqRel)" => "before";
    }

    /// Breaks E1: a watch looks whether the event was announced, instead of announcing it, so two watches take the
    /// first place, and one of them is lost.
    TwoFirsts {
        "event.rs": "if «before & (SET | ANNOUNCED) == 0» {" => "before & (SET | CHAINED) == 0";
    }

    /// Breaks E2: a release takes the chain and forgets the first watch.
    TakeOnlyTheChain {
        "event.rs": "taken.first = «self.first.take()»;" => "None";
    }

    /// Breaks E2: a grant takes the waiter before it sets the event.
    TakeTheWaiterBeforeSetting {
        "event/single.rs": "«»let before = self.word.fetch_or(SET, Ordering::AcqRel);" => "
            let taken = self.take();
            let before = self.word.fetch_or(SET, Ordering::AcqRel);
            return (before & SET == 0).then_some(taken);
        ";
    }

    /// Breaks E1: a task does not look at the event after it has left its waiter. If the event was set meanwhile, the
    /// task is never woken.
    NoLookOfTheWaiter {
        "event/single.rs": "self.subscriber.put(subscriber);
        «self.is_set()»" => "false";
    }

    /// Breaks E1: a task leaves its waiter without an announcement, so the grant does not take it.
    NoAnnouncementOfTheWaiter {
        "event/single.rs": "self.word.fetch_or(ANNOUNCED, Ordering::AcqRel)" => "self.word.load(Ordering::Acquire)";
    }

    /// Breaks guarantee 6: retired subscribers stay in the chains, in any number.
    NoPurge {
        "event.rs": "«»if retired < FEW_RETIRED {" => "return None;";
    }

    /// Breaks guarantee 6: a withdrawn request does not report its watch as retired, so no purge removes it.
    NoRetiring {
        "request.rs": "let purge = «watched.released.retire(garbage)?»;" => "return None";
    }

    /// Breaks E3: a purge drops the subscribers that were pushed since it looked.
    PurgeDropsNewSubscribers {
        "event/purge.rs": "«»if event.chain.replace(&self.head, self.purged.first()) {" => "
            let newer = event.chain.load();
            if event.chain.replace(&newer, self.purged.first()) {
                self.end(garbage);
                return true;
            }
            continue;
        ";
    }

    /// Breaks guarantee 5: a thread that meets a published request without a ticket waits for its owner to
    /// draw one.
    WaitForTheTicket {
        "request.rs": "«»let mut word = self.ticket.load(Ordering::SeqCst);" => r#"
            let mut patience = (0..1_000_000).map(|_| self.ticket.load(Ordering::Acquire));
            assert!(patience.any(|word| word & KIND != PUBLISHED), "it waits for a ticket");
        "#;
    }

    /// Breaks T2: the entries of a request are removed after the requests that waited for it are advanced.
    RemoveAfterAdvancing {
        "table.rs": "«»self.entries.remove(request, inserted, budget, guard);" => "
            let mut backlog = Backlog::default();
            self.end(request, &mut backlog);
            self.complete(backlog, pin());
        ";
    }

    /// Breaks guarantee 2: a walk goes on with the next span, not with the rest of the span in which it
    /// stopped.
    ResumePastTheSpan {
        "walk.rs": "at: «from»," => "
            match from.after {
                Some(_) => Cursor { level: from.level + 1, after: None, ..from },
                None => from,
            }
        ";
    }

    /// Breaks guarantee 2: draws from the clock order nothing, so the walk of a later ticket misses the entries
    /// of an earlier one.
    RelaxedDraw {
        "clock.rs": "self.0.fetch_add(count, «Ordering::AcqRel»)" => "Ordering::Relaxed";
    }

    /// Breaks guarantee 2: a number that is taken has no place in the order of the draws.
    RelaxedTake {
        "clock.rs": "self.0.fetch_max(number + 1, «Ordering::AcqRel»)" => "Ordering::Relaxed";
    }

    /// Breaks T1: the clock passes the ticket of a restored request before its entries are inserted.
    TakeBeforeInserting {
        "table.rs": "«»let mut inserted = 0;" => "self.set_clock(|clock| clock.take(ticket))?;";
        "table.rs": "if let Err(error) = «self.set_clock(|clock| clock.take(ticket))» {" => "Ok(())";
    }

    /// Breaks guarantee 2: a restored request keeps its ticket although the clock has passed it meanwhile. A request
    /// with a larger ticket may have missed it.
    RestoreBehindTheClock {
        "clock.rs": "allow(number, «self.raise(number)»)\n    }\n\n    /// Makes" => "{ self.raise(number); number }";
    }

    /// Breaks guarantee 2: one look at the next entry replaces the search of the subtree, even if other
    /// threads drew tickets since the birth of the request.
    AlwaysShortcut {
        "entries.rs": "only.mode == Mode::Write && «ticket.cast_signed() == request.birth»" => "true";
    }

    /// Breaks guarantee 2: the entry at which a span ended is taken for the first of the next span, although it
    /// sorts before that span.
    NearIsFarEnough {
        "entries.rs": "Near::At(entry) if «entry.key() >= first» =>" => "true";
    }

    /// Breaks N4: a walk uses a place in the list of reads that it found before it visited the list of writes.
    TrustOldPlaces {
        "entries.rs": "front.is_old = «mode == Mode::Read»;" => "false";
    }

    /// Breaks guarantee 2: a walk steps to an entry before the span and takes it for the first of the span.
    OneStepIsFarEnough {
        "entries.rs": "                if «next.key() >= first» {\n                    return Some(next);\n                }\n                front.fail();" => "true";
    }

    /// Breaks guarantee 2: a span that ends at an entry before the path is taken for the last of the list.
    StopAtTheFirstSibling {
        "walk.rs": "} else if «path > beyond» {" => "false";
    }

    /// Breaks guarantee 2: a write skips the ancestors in the list of reads that it shares with a read, which
    /// has not visited that list.
    ReadsVisitReads {
        "walk.rs": "if «self.at.mode == Mode::Write || before.mode == Mode::Write» =>" => "true";
    }

    /// Breaks guarantee 2: a walk that pauses at an entry goes on with the next span.
    PauseBehindTheSpan {
        "entries.rs": "return Found::Paused(«walk.stop_at(here.key().clone())»);" => "{
            walk.leave_span(Some(&here.key().path));
            walk.stop()
        }";
    }

    /// Breaks T4: a depth is marked after the ticket is drawn, so a later walk does not look it up.
    MarkAfterPublishing {
        "entries.rs": "self.mark(resource);" => "";
        "entries.rs": "let ticket = request.publish(clock);«»" => "self.section(only.mode).mark(only);";
    }

    /// Breaks A1: an arm looks for waiting requests before ARMED is set. A request that announces in between is not told.
    LookBeforeArming {
        "wanted.rs": "«»let may_be_watched =" => "
            if self.is_waited_for(request) {
                drop(arm.tell(WANTED));
            }
        ";
        "wanted.rs": "if may_be_watched && «self.is_waited_for(request)» {" => "false";
    }

    /// Breaks A1: ARMED is set before the arm is in the list, so a request sees ARMED and finds no arm.
    ArmBeforeAdding {
        "wanted.rs": "self.arms.add(request.token(), arm, &pin());" => "";
        "wanted.rs": "«»if may_be_watched && self" => "self.arms.add(request.token(), arm, &pin());";
    }

    /// Breaks A1: a task looks whether the arm was told before its waker is in its place.
    LookBeforeTheWaker {
        "arms.rs": "«self.waiter.put(Arc::new(Waiter::new(waker.clone())));»" => "
            let told = self.told.swap(0, Ordering::AcqRel);
            self.waiter.put(Arc::new(Waiter::new(waker.clone())));
            return told;
        ";
    }

    /// Breaks A2: a request that has announced its watch does not look for ARMED.
    NoLookForArms {
        "table/serve.rs": "if «blocker.released.is_armed()» && request.ticket() < CLOSED {" => "false";
    }

    /// A narrowed lock is not armed, so it is not told of the requests that wait for it.
    ForgetArms {
        "request.rs": "self.share_arms(&narrowed);" => "";
    }

    /// The arms of a narrowed lock are told that it is released.
    EndArmsAtNarrowing {
        "narrow.rs": "self.old.released.disarm();" => "";
    }

    /// Breaks A2: the waker of a task is taken before the arm is told.
    WakeBeforeTelling {
        "arms.rs": "self.told.fetch_or(what, Ordering::AcqRel);\n        self.waiter.take()" => "{
            let waiter = self.waiter.take();
            self.told.fetch_or(what, Ordering::AcqRel);
            waiter
        }";
    }

    /// Breaks R4: a grant that comes too late for a withdrawal also takes the request off the count.
    CountEveryGrant {
        "table/serve.rs": "let waiter = request.granted.set();«»" => "
            if waiter.is_none() {
                self.settle(request);
            }
        ";
    }

    /// Breaks R1: a request that enters in steps is published at its first pause.
    PublishAtAPause {
        "entries.rs": "if !self.insert_all(request, inserted, budget, guard) {
                «return None;»" => "
            request.publish(clock);
            return Some(None);
        ";
    }

    /// Breaks T2: a request that leaves in steps is released at its first pause.
    ReleaseAtAPause {
        "table.rs": "let has_left = «*inserted == 0»;" => "true";
    }

    /// Breaks B1: a walk that pauses is forgotten.
    ForgetPausedWalk {
        "table/serve.rs": "Walked::Paused(cursor) => «backlog.put_back(watch.at(cursor))»" => "drop(watch.at(cursor))";
    }

    /// Breaks B1: a `Work` that is dropped leaves the rest undone.
    DropUndone {
        "work.rs": "finish(|| left.step(&mut Budget::unlimited()));" => "left.backlog = Backlog::default();";
    }

    /// Breaks B1: a waker that panics takes the later ones with it.
    LoseTheOtherWakes {
        "backlog.rs": "while let Some(waiter) = «self.next_wake()» {" => "{
            let mut all = std::mem::take(self);
            std::iter::from_fn(|| all.next_wake()).inspect(|waiter| waiter.wake()).last()
        }";
    }

    /// Breaks E3: a purge that pauses goes on one subscriber too late.
    PausedPurgeSkips {
        "event/purge.rs": "self.at = «rest.cloned()»;" => "rest.and_then(|node| node.next.first())";
    }

    /// Breaks R4: a request that pauses in its first walk is not counted as a waiting one, and its grant takes it off
    /// the count.
    UncountedPause {
        "table.rs": "if request.pauses() && request.is_counted() {
                    «self.waiting.add(1);»" => "";
    }

    /// Breaks guarantee 4: a request that is dropped while it enters leaves its entries behind.
    LeaveHalfEntered {
        "work.rs": "Work::leaving(space, self.request, «self.inserted»)" => "0";
    }

    /// Breaks R5: a request rests although a watch is announced. The watch is never served.
    RestThoughAnnounced {
        "request.rs": "«!self.released.is_announced()»" => "true";
    }

    /// Breaks R5: a watch is pushed to a request that has begun to rest since the walk met it.
    NoLookAfterAnnouncement {
        "table.rs": "place.filter(|_| «request.ticket() == ticket»)" => "true";
    }

    /// Breaks O2: a request that rests beside another one takes itself for alone, and misses the next life of the other.
    RestingIsNotMet {
        "walker.rs": "self.any = «true»;" => "self.any | !is_resting(order)";
    }

    /// Breaks O2: the walk of a request that is locked again misses an entry that was born after its ticket.
    WalkAgainFromTheTicket {
        "table.rs": "births: «Walker::ALL_BIRTHS»," => "request.ticket()";
    }

    /// Breaks C3: insertions below a request that rests are not counted.
    NoInterest {
        "counters.rs": "if «above != 0» {" => "false";
    }

    /// Breaks guarantee 2: a request that was alone once takes itself for alone in each life.
    NearIsNeverChecked {
        "reuse/owner.rs": "&& «entries.near(zones) == self.alone_at»" => "true";
    }

    /// Breaks N2: at the same path a narrowed request sorts before the one whose place it takes. A walk that stands at
    /// that one does not meet it.
    NarrowedFirst {
        "request.rs": "let birth = «self.birth - 1»;" => "self.birth + 1";
    }

    /// Breaks N2: a narrowed request has the birth of the one whose place it takes, so chance decides which one sorts
    /// first.
    SameBirth {
        "request.rs": "let narrowed = Request::new(resources, «birth»);" => "self.birth";
    }

    /// Breaks N3: the entries of a request are removed before those of the one that takes its place are inserted.
    RemoveBeforeNarrowed {
        "narrow.rs": "«»let is_given_up = self.new.is_given_up();" => "
            if self.inserted == 0 {
                let mut left = self.old.resources.len();
                table.entries.remove(&self.old, &mut left, &mut Budget::unlimited(), guard);
            }
        ";
        "narrow.rs": "Some((Arc::clone(&self.old), «self.old.resources.len()»))" => "0";
    }

    /// Breaks N1: the `Work` takes no notice of a lock that has given the narrowed request up.
    NeverGivenUp {
        "narrow.rs": "if «self.new.succeed()» {" => "{ self.new.succeed(); true }";
    }

    /// Breaks guarantee 4: a narrowed request that was given up leaves its entries behind.
    LeaveHalfNarrowed {
        "narrow.rs": "Some((Arc::clone(&self.new), «self.inserted»))" => "0";
    }

    /// Breaks guarantee 2: a walk reads the marks of a list once, so it does not look up a depth that a narrowing marks
    /// meanwhile.
    MarksReadOnce {
        "entries.rs": "«marks = section.marks();»\n            }" => "";
    }

    /// Breaks guarantee 2: the first step of a walk looks below its path before it looks at the ancestors.
    ShortcutBeforeAncestors {
        "table.rs": "newest: «newest.as_ref()»," => "newest.as_ref().filter(|newest| newest.behind(&request.resources[0], |_, _| ()).is_none())";
        "walker.rs": "«behind».unwrap_or(Behind::Clear)" => "None";
    }

    /// Breaks R2: all lives of a request publish the same value, so a late helper gives its number to a later life.
    ConstantPublished {
        "request.rs": "let published = PUBLISHED | «self.last_ticket()»;" => "FIRST_LIFE";
    }

    /// Breaks guarantee 2: a walk that passes a resting request does not see what its holder has written.
    RelaxedRest {
        "request.rs": ".store(RESTING | self.ticket(), «Ordering::Release»)" => "Ordering::Relaxed";
    }

    /// Breaks O1: an owner is in its place before its request rests, so another thread may begin the next life.
    OwnerBeforeResting {
        "reuse/mod.rs": "«»if owner.request.may_rest() && owner.request.rest() {" => "
            if owner.request.may_rest() {
                let request = Arc::clone(&owner.request);
                self.put_back(owner);
                request.rest();
                return None;
            }
        ";
    }

    /// Breaks O2: a request takes the sum near it after its walk, and misses what was inserted in between.
    LookAroundAfterTheWalk {
        "reuse/mod.rs": "owner.alone_at = «near».filter(|_| !met.any)" => "owner.look_around(&self.table.entries)";
    }

    /// Breaks C3: an insertion that does not see the interest of a request may also be missed by its walk.
    InterestIsNotCounted {
        "counters.rs": "«self.count_everywhere(mode);»\n            interest.declared" => "";
    }

    /// Breaks R6: a request that takes a number from its reserve looks at the counters before it writes the number.
    LookBeforeTaking {
        "reuse/mod.rs": "«»owner.request.take_up(number);" => "
            if owner.is_alone(entries) {
                owner.request.take_up(number);
                owner.request.granted.set_without_subscribers();
                return Ok(Renewed::Alone);
            }
        ";
    }

    /// Breaks R6: the look at the counters may come before the number is written.
    RelaxedNear {
        "entries.rs": "section.marks.load(«Ordering::SeqCst»)" => "Ordering::Acquire";
        "counters.rs": "self.counters[usize::from(*index)].load(«Ordering::SeqCst»)" => "Ordering::Acquire";
    }

    /// Breaks R6: a walk may load a ticket word before its own insertion is counted.
    RelaxedOrder {
        "request.rs": "let mut word = self.ticket.load(«Ordering::SeqCst»);" => "Ordering::Acquire";
    }

    /// Breaks O3: numbers that were drawn before a walk are taken after it.
    KeepReserveOverWalk {
        "reuse/mod.rs": "«owner.void_reserve();»\n        Ok(Renewed::Walks)" => "";
    }

    /// Breaks O3: a close, a restored or a skipped token voids no numbers in reserve.
    KeepReserves {
        "table.rs": "«self.entries.counters.void_reserves();»" => "";
    }

    /// Breaks R6: the number that a request takes up may be written after its look at the counters.
    RelaxedTakeUp {
        "request.rs": "self.ticket.swap(number, «Ordering::SeqCst»);" => "Ordering::AcqRel";
    }

    /// Breaks R6: an insertion may be counted after its walk has loaded the ticket words.
    RelaxedCount {
        "counters.rs": "self.counters[here].fetch_add(1, «Ordering::SeqCst»)" => "Ordering::AcqRel";
    }

    /// Breaks R6: a request that takes up a number does not look at ancestors of a depth that was marked since its walk.
    OldZones {
        "entries.rs": "(«self.marks() == zones.marks»).then" => "true";
    }

    /// Breaks the promise of tries: a try takes a number in reserve, and may give it back.
    ReserveForTries {
        "reuse/prepared.rs": "self.enqueue_with(«Tickets::Drawn»)?.try_acquired()" => "Tickets::Any";
    }
}
