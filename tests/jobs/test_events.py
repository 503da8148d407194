from gencompositor_jax.jobs.events import Event, Events


def test_each_listener_gets_the_events_of_its_job_in_order():
    events, heard, other = Events(), [], []
    with events.listening("a", heard.append), events.listening("a", other.append):
        events.publish(Event("a", "running", 0, 4))
        events.publish(Event("b", "running", 1, 4))
        assert events.latest("b").done == 1
        events.publish(Event("a", "running", 2, 4))
        events.publish(Event("a", "done"))
    events.publish(Event("a", "failed"))
    assert [(event.state, event.done, event.last) for event in heard] == [
        ("running", 0, False),
        ("running", 2, False),
        ("done", 0, True),
    ]
    assert other == heard and events.latest("a") is None


def test_nothing_is_kept_of_a_listener_that_has_gone():
    events = Events()
    with events.listening("a", lambda _: None):
        pass
    assert not events._listeners


def test_closing_ends_all_listeners_and_later_ones():
    events, heard = Events(), []
    with events.listening("a", heard.append):
        events.close()
    with events.listening("b", heard.append):
        pass
    assert heard == [None, None]
