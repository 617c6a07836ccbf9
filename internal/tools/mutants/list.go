package main

var mutants = []mutant{
	// Those that wait are not told.
	{
		"walk: none after a release", "decide.go",
		"	if t.line.length > 0 {\n		t.walkLocked()\n	}\n", "",
	},
	{
		"walk: none after Reconfigure", "throttler.go",
		"	t.passLocked() // before the queue is shortened: some may go now\n	t.shortenLocked()\n	t.settleLocked()\n",
		"	t.shortenLocked()\n",
	},
	{
		"walk: none after SetFraction", "throttler.go",
		"		t.duty.stop()\n	}\n	t.walkLocked()\n", "		t.duty.stop()\n	}\n",
	},
	{
		"walk: none after SetPressure", "throttler.go",
		"	t.pressed = on\n	t.walkLocked()\n", "	t.pressed = on\n",
	},
	{
		"walk: none after a wait was cancelled", "wait.go",
		"	t.walkLocked() // it may have been in the way\n", "",
	},
	{
		"walk: none after a timeout", "line.go",
		"	for t.dropLocked() {\n		t.passLocked()\n	}\n", "	t.dropLocked()\n",
	},
	{
		"walk: a tenant that may not go ends it", "line.go",
		"	case v.all:\n", "	case v.all || v.reason == ReasonTenantRate:\n",
	},
	{
		"walk: what does not fit ends it", "line.go",
		"	case v.all:\n", "	case v.all || v.reason == ReasonInFlight:\n",
	},
	{
		"timer: not set again", "line.go",
		"		l.timer.Reset(time.Duration(at - t.nowLocked()))\n", "",
	},
	{
		"timer: for the tokens of the first only", "decide.go",
		"				d = b.wait(1, now)\n", "",
	},
	{
		"timer: none for shares that change", "line.go",
		"		l.wakeAt = min(l.wakeAt, t.tenants.counted+tenantWindow)\n", "",
	},

	// Limits.
	{
		"limit: stays as it was", "throttler.go",
		"	t.setBoundLocked()\n}\n", "	if t.version == 1 {\n		t.setBoundLocked()\n	}\n}\n",
	},
	{
		"limit: rows are not added to what is in flight", "decide.go",
		"t.inFlight.Rows > t.bound.Rows-fit.Rows", "t.inFlight.Rows >= t.bound.Rows",
	},
	{
		"limit: one message more", "decide.go",
		"t.inFlight.Messages > t.bound.Messages-fit.Messages", "t.inFlight.Messages >= t.bound.Messages",
	},
	{
		"limit: bytes do not count", "decide.go",
		"	case fit.Bytes > 0 && ", "	case false && ",
	},
	{
		"limit: an oversized cost is not held to it", "decide.go",
		"min(q.cost.Rows, t.bound.Rows, countable)", "min(q.cost.Rows, countable)",
	},
	{
		"limit: a learned one may be nothing", "learn.go",
		"	return max(1, int64(math.Round(l.size)))\n", "	return int64(math.Round(l.size - 1))\n",
	},
	{
		"limit: a learned one has no end", "learn.go",
		"	if l.size >= l.most {\n		l.size, l.ceiling = l.most, 0\n	}\n", "",
	},

	// Tokens.
	{
		"tokens: those that waited pay none", "decide.go",
		"		t.buckets.take(q.cost, now)\n", "		if q.verb == try {\n			t.buckets.take(q.cost, now)\n		}\n",
	},
	{
		"tokens: given back when a wait is cancelled", "wait.go",
		"	t.rejected[ReasonCanceled]++\n	t.walkLocked()",
		"	t.rejected[ReasonCanceled]++\n	t.buckets[Messages].full -= int64(t.buckets[Messages].price)\n	t.walkLocked()",
	},
	{
		"tokens: debt without bound", "bucket.go",
		"return 3 * window", "return 30 * window",
	},
	{
		"tokens: a new rate begins with a full bucket", "bucket.go",
		"used := max(0, float64(b.window)/b.price-level)", "used := min(0, level)",
	},
	{
		"tokens: a tenant owes nothing for a charge", "throttler.go",
		"		q.tenant.rates.take(q.cost, now)\n", "",
	},
	{
		"tokens: load is no pressure", "decide.go",
		" || t.cfg.PressureLoad > 0 && t.loadLocked() >= t.cfg.PressureLoad", "",
	},
	{
		"retry after: without those that wait", "wait.go",
		"		before = before.Add(t.line.ahead[i])\n", "		_ = i\n",
	},
	{
		"retry after: a nanosecond too long", "bucket.go",
		"(span + 1<<bucketShift - 1) >> bucketShift", "span>>bucketShift + 1",
	},
	{
		"retry after: of the wrong weight", "bucket.go",
		"				longest, weight = d, w\n", "				longest = d\n",
	},

	// The fraction.
	{
		"fraction: not for those that wait", "decide.go",
		"q.verb != try && !t.sampler.open() && ", "q.verb != try && !t.sampler.open() && waiting < 2 && ",
	},
	{
		"fraction: a release ends no work", "decide.go",
		"		t.duty.working--\n", "",
	},
	{
		"fraction: time off is credit without bound", "duty.go",
		"max(d.debt, -share*dutyCredit)", "max(d.debt, -share*dutyRest)",
	},
	{
		"fraction: shed by the wrong share", "sampler.go",
		"math.Ldexp(f, 64)", "math.Ldexp(f, 63)",
	},

	// The order of service.
	{
		"order: priorities are one", "context.go",
		"return int(Critical - min(max(p, Background), Critical))", "return 2",
	},
	{
		"order: a large one is overtaken for ever", "line.go",
		"w.passes >= passes || n >= lookahead", "n >= lookahead",
	},
	{
		"order: a rejected call has overtaken", "throttler.go",
		"	return t.decideLocked(q, l.length+1)\n",
		"	v := t.decideLocked(q, l.length+1)\n	if v.reason == ReasonNone {\n		l.overtake(level)\n	}\n	return v\n",
	},
	{
		"order: the newest is never first", "line.go",
		"		q.turnAround(standing)\n", "",
	},
	{
		"order: no turns under standing overload", "line.go",
		"		l.turn = w.class\n", "",
	},
	{
		"order: InOrder is ignored", "line.go",
		"w.hurried() && !t.cfg.Queue.InOrder", "w.hurried()",
	},
	{
		"order: a try goes before those that wait", "throttler.go",
		"	if whole || l.barred(level, t.cfg.Queue.Passes) {\n", "	if false && whole {\n",
	},

	// The queue.
	{
		"queue: one more than its length", "place.go",
		"	if l.length < t.cfg.Queue.Length {\n", "	if l.length <= t.cfg.Queue.Length {\n",
	},
	{
		"queue: gives up its oldest", "place.go",
		"w.seq > found.seq", "w.seq < found.seq",
	},
	{
		"queue: MaxWait since the last look", "line.go",
		"now-w.since >= int64(t.cfg.MaxWait)", "now-w.lookSince >= int64(t.cfg.MaxWait)",
	},
	{
		"queue: WithoutEarlyRejection is ignored", "line.go",
		"return w.until != forever && !w.patient", "return w.until != forever",
	},
	{
		"queue: tokens that come too late are waited for", "wait.go",
		"	case need > w.until-t.nowLocked():\n", "	case false:\n",
	},
	{
		"queue: those for which a shorter one has no place stay", "place.go",
		"l.length > max(0, t.cfg.Queue.Length)", "l.length > max(1, t.cfg.Queue.Length)",
	},

	// Tenants.
	{
		"tenants: no shares", "tenant.go",
		"			return true\n", "			return false\n",
	},
	{
		"tenants: what one holds is not given back", "decide.go",
		"		r.tenant.inFlight.Messages -= r.cost.Messages\n", "",
	},
	{
		"tenants: one with a rate is never forgotten", "tenant.go",
		"t.rates.idle(bucketTime(now))", "t.rates.idle(now)",
	},
	{
		"tenants: those that share a place keep the old rate", "throttler.go",
		"		rest.rates.set(s.KeyRate, s.KeyBurst, bucketTime(t.nowLocked()))\n", "",
	},

	// Permits and books.
	{
		"permit: an old copy releases another's work", "decide.go",
		"r.held && r.generation == p.generation", "r.held",
	},
	{
		"permit: bytes are given back twice", "decide.go",
		"	t.inFlight.Bytes -= r.cost.Bytes\n", "	t.inFlight.Bytes -= 2 * r.cost.Bytes\n",
	},
	{
		"permit: none for a call in the mode Observe", "throttler.go",
		"	return t.admitLocked(q), nil\n", "	return Permit{}, nil\n",
	},
	{
		"books: a cancelled wait is not counted", "wait.go",
		"	t.rejected[ReasonCanceled]++\n	t.walkLocked()", "	t.walkLocked()",
	},
	{
		"books: a wait has no end", "stats.go",
		"	w.sum += now\n", "",
	},
}
