package interceptors

import (
	"bytes"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ticket is a Flight Ticket, seen by its getter.
type ticket interface{ GetTicket() []byte }

// classify refines the class of a DoGet or DoPut by the first message that its
// client sent: the Flight SQL command in the ticket, or in the descriptor. What
// carries no known command keeps the method's own class.
func classify(m *method, first any) Class {
	switch m.class {
	case ClassGet:
		if t, ok := first.(ticket); ok {
			return getClass(command(t.GetTicket()))
		}
	case ClassPut:
		return putClass(command(descriptorCommand(first)))
	}
	return m.class
}

// sqlPrefix is what the type URL of a Flight SQL command ends in, before the command's name.
var sqlPrefix = []byte("/arrow.flight.protocol.sql.")

// command returns the name of the Flight SQL command in b, a serialized
// google.protobuf.Any, or nothing. It reads the first field alone, and
// allocates nothing.
func command(b []byte) []byte {
	const typeURL = 0x0a // field 1, length-delimited
	if len(b) < 2 || b[0] != typeURL {
		return nil
	}
	n := int(b[1]) // a type URL is shorter than 128 bytes, so its length takes one byte
	if n >= 0x80 || len(b) < 2+n {
		return nil
	}
	_, name, ok := bytes.Cut(b[2:2+n], sqlPrefix)
	if !ok {
		return nil
	}
	return name
}

func getClass(name []byte) Class {
	if bytes.HasPrefix(name, []byte("CommandGet")) {
		return ClassGetMetadata
	}
	return ClassGet
}

func putClass(name []byte) Class {
	switch string(name) {
	case "CommandPreparedStatementQuery":
		return ClassPutBind
	case "CommandStatementUpdate", "CommandPreparedStatementUpdate", "CommandStatementSubstraitPlan":
		return ClassPutUpdate
	}
	return ClassPut
}

// descriptorCommand reads flight_descriptor.cmd of the first FlightData of a
// DoPut. The descriptor's Go type differs between code generations, so it is
// read by reflection: once a stream, never on the path of each message.
func descriptorCommand(m any) []byte {
	pm, ok := m.(proto.Message)
	if !ok {
		return nil
	}
	r := pm.ProtoReflect()
	descriptor := r.Descriptor().Fields().ByName("flight_descriptor")
	if descriptor == nil || descriptor.Kind() != protoreflect.MessageKind || descriptor.IsList() || !r.Has(descriptor) {
		return nil
	}
	dm := r.Get(descriptor).Message()
	cmd := dm.Descriptor().Fields().ByName("cmd")
	if cmd == nil || cmd.Kind() != protoreflect.BytesKind || cmd.IsList() {
		return nil
	}
	return dm.Get(cmd).Bytes()
}
