package interceptors

import "strings"

// A Class groups calls that cost alike. Flight's methods do not: a DoPut may be
// a bulk load or the parameters of a prepared statement, a DoGet may be a table
// or the list of tables. The class is read from the command that the call
// carries, so it is closed and small enough to label metrics with.
type Class uint8

const (
	// ClassUnary is a unary call of any service.
	ClassUnary Class = iota
	// ClassStream is a stream of a service that is not Flight.
	ClassStream
	// ClassInfo is Flight's planning: GetFlightInfo, PollFlightInfo, GetSchema, ListFlights, ListActions.
	ClassInfo
	// ClassGet is a DoGet of data.
	ClassGet
	// ClassGetMetadata is a DoGet of a Flight SQL catalog: tables, schemas, keys, SqlInfo.
	ClassGetMetadata
	// ClassPut is a DoPut of data.
	ClassPut
	// ClassPutBind is a DoPut of a prepared statement's parameters.
	ClassPutBind
	// ClassPutUpdate is a DoPut that runs an update statement.
	ClassPutUpdate
	// ClassExchange is a DoExchange.
	ClassExchange
	// ClassAction is a DoAction.
	ClassAction

	classes
)

var classNames = [classes]string{
	"unary", "stream", "info", "get", "get_metadata", "put", "put_bind", "put_update", "exchange", "action",
}

// String returns the name that metrics use, such as "put_bind".
func (c Class) String() string {
	if c < classes {
		return classNames[c]
	}
	return "invalid"
}

// Bulk reports whether the class moves data, and is therefore paced message by
// message. The others are counted and admitted, and then left alone.
func (c Class) Bulk() bool {
	switch c {
	case ClassStream, ClassGet, ClassPut, ClassExchange:
		return true
	}
	return false
}

const flightService = "/arrow.flight.protocol.FlightService/"

// A method is what is known of a call before its first message.
type method struct {
	name         string
	class        Class
	exempt       bool
	flight       bool
	refine       bool // the first message of the client decides the class
	clientStream bool
	serverStream bool
}

func newMethod(name string, clientStream, serverStream bool) *method {
	m := &method{name: name, clientStream: clientStream, serverStream: serverStream}
	m.class = ClassUnary
	if clientStream || serverStream {
		m.class = ClassStream
	}
	short, ok := strings.CutPrefix(name, flightService)
	if !ok {
		return m
	}
	m.flight = true
	switch short {
	case "DoGet":
		m.class, m.refine = ClassGet, true
	case "DoPut":
		m.class, m.refine = ClassPut, true
	case "DoExchange":
		m.class = ClassExchange
	case "DoAction":
		m.class = ClassAction
	case "GetFlightInfo", "PollFlightInfo", "GetSchema", "ListFlights", "ListActions":
		m.class = ClassInfo
	}
	return m
}

// alwaysExempt are never tracked, limited or delayed: what says whether a
// server lives must not wait behind its work, and a handshake is no data.
var alwaysExempt = []string{
	"/grpc.health.v1.Health/",
	"/grpc.reflection.v1.ServerReflection/",
	"/grpc.reflection.v1alpha.ServerReflection/",
	"/grpc.channelz.v1.Channelz/",
	"/xds.service.orca.v3.OpenRcaService/",
	flightService + "Handshake",
}

// exempted reports whether one of the patterns names the method. A pattern is a
// full method, or a service with its final slash.
func exempted(name string, patterns []string) bool {
	for _, p := range patterns {
		if name == p || strings.HasSuffix(p, "/") && strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
